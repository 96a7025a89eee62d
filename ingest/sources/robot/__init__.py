"""What layouts of robot data share: an episode that is opened, its times, cameras, pictures and videos."""
