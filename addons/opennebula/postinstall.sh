# When the files are there: puts the drivers where OpenNebula has its own, or the new ones in the place of the old, each in one step.
#
# It never fails: what is missing then, and what to do, the program says. OpenNebula's configuration is the administrator's to change.
if [ -d /var/lib/one/remotes ]; then
	# What it says is of a first installation and true of every one.
	/usr/libexec/onereflink/install.sh || :
else
	echo 'There is no OpenNebula here yet: run /usr/libexec/onereflink/install.sh when there is.'
fi
