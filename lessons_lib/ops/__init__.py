"""The former address of `course/`, kept for the first cells of lessons saved in people's drives."""
