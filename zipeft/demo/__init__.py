"""A local page on which a vision-language model is asked about an image."""
