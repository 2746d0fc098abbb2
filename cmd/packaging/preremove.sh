# Before the files go: takes the plugin directories away, unless a newer version comes (rpm: 1; dpkg: upgrade).
# While an SR is attached that is refused, and the package stays.
case $1 in
0 | remove)
	if [ -d /usr/libexec/xapi-storage-script ]; then
		/usr/libexec/reflinksr/reflinksr uninstall --root /usr/libexec/xapi-storage-script
	fi
	;;
esac
