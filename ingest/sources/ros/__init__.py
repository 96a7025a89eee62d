"""ROS bags: ROS 1 `.bag`, ROS 2 `.db3` and `.mcap`, read through `rosbags` and brought onto one clock."""
