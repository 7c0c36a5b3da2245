"""Runs and publishes the course, and what a reader needs beside the lessons."""
