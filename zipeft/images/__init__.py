"""What tasks on images share: reading files, folders of classes, and splits of arrays."""
