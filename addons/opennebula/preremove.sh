# Before the files go: takes the drivers away, unless a newer version comes (rpm: 1; dpkg: upgrade). Datastores and images stay, and so does OpenNebula's
# configuration: AUTOCONF=1 install.sh undo, before, takes that out.
case $1 in
0 | remove)
	if [ -d /var/lib/one/remotes ] && [ -x /usr/libexec/onereflink/install.sh ]; then
		/usr/libexec/onereflink/install.sh undo || :
	fi
	;;
esac
