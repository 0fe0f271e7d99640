"""The methods, one file each: its name is the method's, its last line names the class.

May import everything in `compressors` but `pipeline`.
"""
