"""The long runs behind the lessons' claims, one per lesson, and what these share; no notebook imports
them.
"""
