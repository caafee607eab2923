"""What a plug-in implements or is handed: backbones, tasks, methods, objectives, data, and their settings."""
