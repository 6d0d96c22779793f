"""An OpenAI-compatible server on this machine: started, asked, loaded, and gone again."""
