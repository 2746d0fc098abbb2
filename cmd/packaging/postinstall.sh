# When the files are there: puts the plugin directories in place, each in one step, instead of those of an older version.
#
# It never fails: a host with the new program and the old directories works, one whose upgrade has ended half-way may not. What is
# missing then, and what to do, the program says. It restarts nothing: that is the administrator's to do.
/usr/libexec/reflinksr/reflinksr install --root /usr/libexec/xapi-storage-script || :
