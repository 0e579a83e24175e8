"""Bulk classification: many images from files, folders, tar files and lists to one output file."""
