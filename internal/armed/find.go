package armed

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vmcsnote/internal/inputfile"
)

// sysconfig has shell variables, of kdump-utils and of SUSE's kdump.
const sysconfig = "etc/sysconfig/kdump"

// findImage finds the capture initramfs, or returns "", and the way to make it
// anew.
func (c *checker) findImage() (path string, rebuild Cure) {
	if c.image != "" {
		return c.image, Rebuild
	}
	release, _ := c.sys.Release()
	for _, path := range []string{
		"boot/initrd-" + release + "-kdump",
		"var/lib/kdump/initrd", // since SUSE's kdump 1.9
	} {
		if path = filepath.Join(c.root, path); isFile(path) {
			return path, RebuildSUSE
		}
	}
	if of := setting(c.text(sysconfig), "KDUMP_KERNELVER"); of != "" {
		release = of
	}
	for _, dir := range c.imageDirs(release) {
		for _, name := range []string{"initramfs-" + release + "kdump.img", "initrdkdump"} {
			if path := filepath.Join(c.root, dir, name); isFile(path) {
				return path, RebuildFedora
			}
		}
	}
	return "", 0
}

// imageDirs are the directories, below the root, in which kdump-utils looks for
// the kernel of a release; it puts the initramfs beside the kernel
// (prepare_kdump_kernel, prepare_kdump_bootinfo). By the boot loader
// specification that is TOKEN/RELEASE in the partition of the boot loader.
func (c *checker) imageDirs(release string) []string {
	boot := strings.Fields(setting(c.text(sysconfig), "KDUMP_BOOTDIR"))
	if len(boot) == 0 {
		ostree, _ := filepath.Glob(filepath.Join(c.root, "boot/ostree/*"))
		for _, dir := range ostree {
			boot = append(boot, strings.TrimPrefix(dir, filepath.Clean(c.root)))
		}
		boot = append(boot, "boot", "boot/efi", "efi", "")
	}
	var dirs []string
	for _, dir := range boot {
		dirs = append(dirs, dir)
		for _, token := range c.tokens() {
			dirs = append(dirs, filepath.Join(dir, token, release))
		}
	}
	return append(dirs, "boot", "var/lib/kdump") // with a unified kernel image; where the others cannot be written
}

// tokens are the names of this system in the boot loader's partition, as
// kernel-install chooses them. kdump-utils knows the machine's ID alone.
func (c *checker) tokens() []string {
	tokens := []string{c.text("etc/kernel/entry-token"), c.text("etc/machine-id")}
	for _, release := range []string{"etc/os-release", "usr/lib/os-release"} {
		text := c.text(release)
		tokens = append(tokens, setting(text, "IMAGE_ID"), setting(text, "ID"))
	}
	tokens = append(tokens, "Default")
	return slices.DeleteFunc(tokens, func(token string) bool { return token == "" || strings.ContainsAny(token, "/\n") })
}

// text returns what is in a small file below the root, without blanks around
// it, or "".
func (c *checker) text(name string) string {
	b, err := inputfile.ReadAll(filepath.Join(c.root, name), 1<<20)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
