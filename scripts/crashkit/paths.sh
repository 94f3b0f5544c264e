# Where things are; for prepare, run and the checks.
#	$WORK      all of it
#	$release   of the kernel, as uname -r prints it
#	$built     what was made for that kernel
# shellcheck shell=bash disable=SC2034
WORK=${WORK:-${XDG_CACHE_HOME:-$HOME/.cache}/vmcsnote-e2e}
mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
PATH=$PATH:/usr/sbin:/sbin

# kernelRelease finds the kernel that linux-image-amd64 stands for, or, with
# BUILT=DIR, the one that was made there, of which DIR/release tells.
kernelRelease() {
	if [ -n "${BUILT:-}" ]; then
		built=$BUILT
		release=$(cat "$built/release")
		return
	fi
	release=$(apt-cache depends linux-image-amd64 2>/dev/null |
		sed -n 's/^ *Depends: linux-image-\([0-9].*\)/\1/p' | head -1)
	built=$WORK/$release
	[ -n "$release" ]
}
