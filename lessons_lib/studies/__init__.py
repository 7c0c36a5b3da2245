"""The long runs behind the lessons' claims, one a lesson, and what these share; no notebook imports
them.
"""
