package armed

import (
	"io"
	"strings"

	"vmcsnote/internal/unpack"
)

// imageUnpackers are shell commands that unpack images of file systems, by the
// names that dracut has for them. Their files go out as a cpio archive.
const imageUnpackers = `
squash-root.img unsquashfs -n -no-xattrs -d "$t/root" "$t/image"
squashfs-root.img unsquashfs -n -no-xattrs -d "$t/root" "$t/image"
root.img unsquashfs -n -no-xattrs -d "$t/root" "$t/image"
erofs-root.img fsck.erofs --extract="$t/root" "$t/image"
`

// unpackFiles runs such a command for an image, and packs the files that
// matter.
const unpackFiles = `t=$(mktemp -d) && trap 'rm -rf "$t"' EXIT && trap 'exit 1' HUP INT TERM && cat >"$t/image" && COMMAND >&2 &&
cd "$t/root" && find usr/*bin/vmcsnote* bin/vmcsnote* sbin/vmcsnote* usr/libexec/vmcsnote etc/kdump* etc/vmcsnote | cpio -o -H newc`

// unpackImage unpacks r. It implements initramfs.Unpack.
func unpackImage(format string, r io.Reader) (io.ReadCloser, error) {
	if unpack.Known(format) {
		return unpack.NewReader(format, r)
	}
	_, command, _ := strings.Cut(imageUnpackers, "\n"+format+" ")
	command, _, _ = strings.Cut(command, "\n")
	program, _, _ := strings.Cut(command, " ")
	return unpack.RunScript(program, strings.Replace(unpackFiles, "COMMAND", command, 1), r)
}
