"""What tasks on text share: settings, files, splits and objectives."""
