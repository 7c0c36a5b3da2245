"""The long runs behind the lessons' claims, one per lesson, and what they share.

No notebook imports them.
"""
