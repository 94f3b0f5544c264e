package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

const (
	// imageSize has room for the core, a copy that shares nothing, and what the
	// file systems keep for themselves.
	imageSize = 640 << 20
	// maxMeta bounds what a clone may allocate, in MiB: descriptions of the
	// blocks that it shares, and the pages of headers and notes.
	maxMeta = 1
	// spare is what is left free on a full file system, in bytes: more than a
	// clone needs, and no room for anything else.
	spare = maxMeta << 20 / 2
)

// A cloner is a file system that shares blocks, with the core on it.
type cloner struct {
	*bench
	name, dir string
}

func (c *cloner) path(name string) string { return filepath.Join(c.dir, name) }

// clones measures, on a file system of that name made in a file, that in place
// by clone and -o cost metadata only: in time against a cp that does not share,
// in blocks that become allocated, and with no room left.
func (b *bench) clones(name string, mkfs ...string) error {
	c := &cloner{b, name, b.path(name)}
	unmount, err := c.mount(mkfs)
	if err != nil {
		b.table.skip(name, err.Error())
		return nil
	}
	defer unmount()
	if _, err := b.exec("cp", "--sparse=always", b.path("deb-t1"+heavy), c.path("core")); err != nil {
		return err
	}
	if err := c.compare("in place by clone", c.inPlace, true); err != nil {
		return err
	}
	if err := c.compare("-o", c.output, false); err != nil {
		return err
	}
	return c.full()
}

// mount makes the file system and mounts it.
func (c *cloner) mount(mkfs []string) (unmount func(), err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can mount")
	}
	image := c.dir + ".image"
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, errors.WithStack(err)
	}
	if err := os.Truncate(image, imageSize); err != nil {
		return nil, errors.WithStack(err)
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, errors.WithStack(err)
	}
	if _, err := c.exec(mkfs[0], append(mkfs[1:], image)...); err != nil {
		return nil, err
	}
	if _, err := c.exec("mount", "-o", "loop", image, c.dir); err != nil {
		return nil, err
	}
	return func() {
		exec.Command("umount", c.dir).Run() // after an interrupt, too
		os.Remove(image)
	}, nil
}

// inPlace changes a clone of the core.
func (c *cloner) inPlace() (time.Duration, error) {
	return c.inject("in place by clone", "deb-t1", c.path("victim"), "--placement", "clone")
}

// output writes a changed core.
func (c *cloner) output() (time.Duration, error) {
	return c.inject("-o by clone", "deb-t1", c.path("core"), "-o", c.path("out"))
}

// reset leaves the core, and a clone of it to be changed.
func (c *cloner) reset() error {
	for _, name := range []string{"victim", "out", "copy"} {
		if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return errors.WithStack(err)
		}
	}
	_, err := c.exec("cp", "--reflink=always", c.path("core"), c.path("victim"))
	return err
}

// compare compares a way of injecting with a cp that does not share blocks, and
// that waits for the disk where the other does.
func (c *cloner) compare(name string, inject func() (time.Duration, error), durable bool) error {
	most := int64(0)
	count := func() (time.Duration, error) {
		if err := c.reset(); err != nil {
			return 0, err
		}
		before, err := c.free()
		if err != nil {
			return 0, err
		}
		took, err := inject()
		if err != nil {
			return 0, err
		}
		after, err := c.free()
		most = max(most, before-after)
		return took, err
	}
	cp := func() (time.Duration, error) {
		if err := c.reset(); err != nil {
			return 0, err
		}
		if _, err := c.free(); err != nil {
			return 0, err
		}
		took, err := c.exec("cp", "--reflink=never", c.path("core"), c.path("copy"))
		if err == nil && durable {
			var synced time.Duration
			synced, err = c.exec("sync", c.path("copy"))
			took += synced
		}
		return took, err
	}
	// A few will do: the difference is large, and cp has much to write.
	r, err := pairs(min(c.runs, 5), count, cp)
	if err != nil {
		return err
	}
	c.table.ratioAtMost(fmt.Sprintf("%s, %s / cp --reflink=never", c.name, name), r, 0.5)
	c.table.atMost(fmt.Sprintf("%s, %s: allocated", c.name, name), float64(most)/(1<<20), maxMeta, "%.2f MiB")
	return nil
}

// full injects with no room left for a segment or for a second core.
func (c *cloner) full() error {
	if err := c.reset(); err != nil {
		return err
	}
	if _, err := c.free(); err != nil {
		return err
	}
	if err := c.fill(); err != nil {
		return err
	}
	left, err := c.free()
	if err != nil {
		return err
	}
	name := c.name + ", full"
	for _, inject := range []func() (time.Duration, error){c.inPlace, c.output} {
		if _, err := inject(); err != nil {
			return errors.Wrap(err, name)
		}
	}
	if _, err := c.exec(filepath.Join(c.made, "vmcsnote"), "verify", c.path("victim"), c.path("out")); err != nil {
		return errors.Wrap(err, name)
	}
	c.table.add(name+": in place by clone, and -o", fmt.Sprintf("both done with %d KiB free", left>>10), "done", true)
	return nil
}

// fill allocates all blocks but the spare ones.
func (c *cloner) fill() error {
	f, err := os.Create(c.path("fill"))
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	size := int64(0)
	for n := int64(64 << 20); n >= blockSize; {
		switch err := unix.Fallocate(int(f.Fd()), 0, size, n); err {
		case nil:
			size += n
		case unix.ENOSPC:
			n /= 2
		default:
			return errors.Wrap(err, "fallocate")
		}
	}
	return errors.WithStack(f.Truncate(size - spare))
}

// free returns how many bytes are free for users once the file system has come
// to rest: XFS frees the blocks of removed files in the background.
func (c *cloner) free() (int64, error) {
	last := int64(-1)
	for range 100 {
		if err := sync(c.dir); err != nil {
			return 0, err
		}
		var s unix.Statfs_t
		if err := unix.Statfs(c.dir, &s); err != nil {
			return 0, errors.Wrap(err, c.dir)
		}
		now := int64(s.Bavail) * int64(s.Bsize)
		if now == last {
			return now, nil
		}
		last = now
		time.Sleep(20 * time.Millisecond)
	}
	return 0, errors.Errorf("%s: blocks are still being freed or taken", c.name)
}
