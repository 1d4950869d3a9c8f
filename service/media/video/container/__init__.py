"""The file of a clip: what it is, its boxes and edit lists, its packets and their clock."""
