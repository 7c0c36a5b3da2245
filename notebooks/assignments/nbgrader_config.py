"""nbgrader's own commands, such as `nbgrader generate_assignment 01_masks`, run in this folder."""

c = get_config()  # noqa: F821 (nbgrader defines it)
c.CourseDirectory.course_id = "fine-tuning-lessons"
# A pair's .py holds the solutions, and nbgrader would hand it out beside the notebook.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "*.py"]
