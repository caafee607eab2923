"""Visual question answering: questions on images, as tokens for a language model, and what tasks on them share."""
