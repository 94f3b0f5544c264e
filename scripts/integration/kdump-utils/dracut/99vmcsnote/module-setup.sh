#!/bin/bash
# dracut module: what adds the VMCSINFO note, for the initramfs that saves dumps.
#
# kdump-utils takes care of the hook: its own module puts what is in the host's
# /etc/kdump/post.d into the image, links and what they point to, and kdumpctl
# makes a new image when that changes. Without the link there is no hook.

# shellcheck disable=SC2154 # dracutsysrootdir, *dracutmodules: dracut's

# Only into that image: kdump-utils' mkdumprd sets IN_KDUMP, SUSE's adds the
# module kdump. With 255 dracut --add vmcsnote takes it into any other.
check() {
	require_binaries vmcsnote || return 1
	[[ ${IN_KDUMP-} ]] && return 0
	[[ " ${dracutmodules-} ${add_dracutmodules-} ${force_add_dracutmodules-} " == *' kdump '* ]] && return 0
	return 255
}

depends() {
	return 0
}

# own FILE: only root could have written it, or put another in its place.
own() {
	local part
	for part in "${1%/*}" "$1"; do
		[[ -O $part && $(ls -ld "$part") == [-d]????-??-?* ]] || return 1
	done
}

install() {
	inst_multiple vmcsnote sed ls head tr
	# What is missing here costs a bound or a sync, not the note.
	inst_multiple -o vmcsnote-collector /usr/libexec/vmcsnote/kdump-post timeout stat chmod sync

	# There is none before kdump has been armed for the first time. In the image
	# it is root's, so it has to be root's here.
	local record=/etc/vmcsnote/record
	! own "${dracutsysrootdir-}$record" || inst_simple "$record"
}
