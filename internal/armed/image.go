package armed

import (
	"io"
	"path"
	"strings"

	"vmcsnote/internal/initramfs"
	"vmcsnote/internal/inputfile"
	"vmcsnote/internal/source"
	"vmcsnote/record"
)

// An image has the files of a capture initramfs that matter here.
type image struct {
	names    map[string]uint32 // the modes of vmcsnote's files, by name
	contents map[string]string // of the record and of kdump.conf
}

// maxNames bounds the names that are kept.
const maxNames = 1000

// readImage reads the initramfs in the file path.
func readImage(path string) (*image, error) {
	f, err := inputfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	im := &image{map[string]uint32{}, map[string]string{}}
	return im, initramfs.Walk(f, unpackImage, im.visit)
}

// visit keeps a file that matters. dracut packs nearly all of the files for
// kdump into the image of a file system, which is then one file in the
// initramfs.
func (im *image) visit(f initramfs.File) error {
	switch f.Name {
	case "squash-root.img", "squashfs-root.img", "squash/root.img", "erofs-root.img":
		r, err := unpackImage(path.Base(f.Name), f.Contents)
		if err != nil {
			return err
		}
		defer r.Close()
		return initramfs.Walk(r, unpackImage, im.visit)
	case source.DefaultRecord[1:], kdumpConf:
		b, err := io.ReadAll(io.LimitReader(f.Contents, record.MaxSize+1))
		im.contents[f.Name] = string(b)
		return err
	}
	if strings.Contains(f.Name, "vmcsnote") && len(im.names) < maxNames {
		im.names[f.Name] = f.Mode
	}
	return nil
}

// runs reports whether name is a file that can be run, or a link.
func (im *image) runs(name string) bool {
	const link, executable = 0o120000, 0o100
	mode, there := im.names[name]
	return there && (mode&0o170000 == link || mode&executable != 0)
}
