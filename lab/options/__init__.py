"""Options that the commands of the lab share, the parsing of their values, and files they write.

May import `tamis` and `tamis_lab.datasets`.
"""
