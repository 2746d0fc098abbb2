# When the files are there: puts the plugin directories in place, each in one step, instead of those of an older version.
#
# It never fails: a host with the new program and the old directories works, one whose upgrade has ended half-way may not. What is
# missing then, and what to do, the program says. It restarts nothing: that is the administrator's to do.
if [ -e /opt/xensource/sm/ReflinkSR ]; then # this host has the driver for SMAPIv1 instead
	/usr/libexec/reflinksr/reflinksr install --smapiv1 || :
else
	/usr/libexec/reflinksr/reflinksr install --root /usr/libexec/xapi-storage-script || :
fi

# The service of disk graphs, whose unit says where it is of use. It begins with the first installation, and goes on with the new
# program after an upgrade; who has switched it off finds it so.
unit=reflinksr-metrics.service
if [ -x /usr/bin/systemctl ]; then
	how=try-restart
	case $1.$2 in
	1. | configure.) # rpm; dpkg, which tells the former version
		how=start
		systemctl enable $unit || :
		;;
	esac
	if [ -d /run/systemd/system ]; then # not in an image that is being built
		systemctl daemon-reload && systemctl $how $unit || :
	fi
fi
