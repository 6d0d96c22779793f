"""One fine-tune in many formats: trained, asked, and compared."""
