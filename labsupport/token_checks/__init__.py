"""What the trainer makes of a row, and checks of that: templates, marks, loss, length."""
