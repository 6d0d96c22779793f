"""What went wrong with a fine-tune: from the folder that the trainer wrote and the data it was trained on."""
