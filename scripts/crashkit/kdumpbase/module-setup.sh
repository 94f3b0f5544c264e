#!/bin/bash
# Stands in for kdump-utils' dracut module: as there, what is in the host's
# /etc/kdump/post.d goes into the image, and makedumpfile.

# shellcheck disable=SC2154 # moddir: dracut's

check() {
	[[ ${IN_KDUMP-} ]]
}

depends() {
	echo base rootfs-block
}

install() {
	local file
	for file in /etc/kdump/post.d/*; do
		[[ ! -x $file ]] || dracut_install "$file"
	done
	inst_multiple makedumpfile grep cut cp cat mv mkdir rm mount umount sync dd date
	inst_simple "$moddir/kdump.sh" /usr/bin/kdump.sh
	inst_hook pre-pivot 99 "$moddir/save.sh"
}
