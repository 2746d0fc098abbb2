# Before the files go: takes the plugin directories away, and ends the service of disk graphs, unless a newer version comes
# (rpm: 1; dpkg: upgrade). While an SR is attached that is refused, and the package stays.
case $1 in
0 | remove)
	# Without the program nothing can be asked, and nothing works any more.
	if [ -d /usr/libexec/xapi-storage-script ] && [ -x /usr/libexec/reflinksr/reflinksr ]; then
		/usr/libexec/reflinksr/reflinksr uninstall --root /usr/libexec/xapi-storage-script || exit 1
	fi
	if [ -e /opt/xensource/sm/ReflinkSR ] && [ -x /usr/libexec/reflinksr/reflinksr ]; then
		/usr/libexec/reflinksr/reflinksr uninstall --smapiv1 || exit 1
	fi
	unit=reflinksr-metrics.service
	if [ -x /usr/bin/systemctl ]; then
		systemctl disable $unit || :
		if [ -d /run/systemd/system ]; then
			systemctl stop $unit || :
		fi
	fi
	;;
esac
