"""A contract with an existing app: which jobs are what, and where its tables say what is asked.

Pure: reads a file and jobs, opens no connection. The SQL that a contract brings is run by storage.
"""
