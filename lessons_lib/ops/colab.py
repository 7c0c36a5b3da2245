"""The former address of `lessons_lib.course.colab`; saved copies of lessons still call it."""

from lessons_lib.course.colab import set_up

__all__ = ["set_up"]
