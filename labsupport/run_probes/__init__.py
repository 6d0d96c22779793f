"""Evidence that takes the model: what explains the recorded replies, and what was learned."""
