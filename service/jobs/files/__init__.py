"""Files of jobs: in a folder, or in object storage."""
