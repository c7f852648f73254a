"""Other projects' files, read as data and never run: diffusers' schedulers, NVlabs' snapshots."""
