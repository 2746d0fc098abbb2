#!/bin/sh
# Puts the drivers of onereflink into OpenNebula's front-end. It can be run again, after an upgrade too.
#	install.sh [PROGRAM]        PROGRAM is onereflink, by default the one beside this script
#	install.sh undo [PROGRAM]   takes all of it out again; datastores stay as they are
#	AUTOCONF=1                  also edits oned.conf and vmm_execrc
#	ONE_USER, ONE_VAR, ONE_LOCATION   where they are not oneadmin, /var/lib/one and unset
set -eu
undo=
if [ "${1-}" = undo ]; then
	undo=--undo
	shift
fi
program=${1-$(dirname "$0")/onereflink}
if [ -n "${ONE_LOCATION-}" ]; then
	var=${ONE_VAR-$ONE_LOCATION/var} etc=$ONE_LOCATION/etc
else
	var=${ONE_VAR-/var/lib/one} etc=/etc/one
fi
user=${ONE_USER-oneadmin}
remotes=$var/remotes
if [ ! -d "$remotes" ]; then
	echo "install.sh: there is no $remotes: is this OpenNebula's front-end? ONE_VAR names another place" >&2
	exit 1
fi
if ! version=$("$program" version); then
	echo "install.sh: $program does not run: build it (make build) and name it" >&2
	exit 1
fi
if [ -n "$undo" ]; then
	"$program" uninstall "$remotes"
else
	"$program" install "$remotes"
	echo "$version is in $remotes"
	if [ "$(id -u)" = 0 ]; then
		chown -hR "$user:" "$remotes/datastore/reflink" "$remotes/tm/reflink"
	fi
fi
if [ "${AUTOCONF-}" = 1 ]; then
	# shellcheck disable=SC2086 # nothing, or one word
	"$program" configure $undo "$etc/oned.conf" "$etc/vmm_exec/vmm_execrc"
	echo "Restart OpenNebula (systemctl restart opennebula), then, as $user: onehost sync --force"
elif [ -z "$undo" ]; then
	echo "Edit oned.conf and vmm_execrc as the README has it (or: AUTOCONF=1 $0), restart OpenNebula, then, as $user: onehost sync --force"
fi
