"""What a plug-in implements or is handed: backbones, tasks, methods, splices, objectives, data, and their settings."""
