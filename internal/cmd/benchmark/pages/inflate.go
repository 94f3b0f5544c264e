package main

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pkg/errors"
	"golang.org/x/sys/unix"

	"vmcsnote/internal/lzo"
)

const (
	maxWorkers = 128 // vmcsnote's
	atOnce     = 256 // pages that a worker takes at a time
)

// load reads all pages of a dump that make made, compressed as they are, into
// memory.
func load(path string) (dump, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.WithStack(err)
	}
	if len(b) < maxMapnr64 {
		return nil, errors.Errorf("%d bytes are no dump", len(b))
	}
	blocks := 1 + int(little.Uint32(b[subHdrBlocks:])) + int(little.Uint32(b[bitmapBlocks:]))
	if blocks*blockSize+descSize > len(b) {
		return nil, errors.Errorf("descriptors at block %d, beyond the end", blocks)
	}
	var d dump
	for at, end := blocks*blockSize, len(b); at+descSize <= end; at += descSize {
		off, size := int(little.Uint64(b[at:])), int(little.Uint32(b[at+8:]))
		if off < at || off > len(b) || size > len(b)-off {
			return nil, errors.Errorf("page data at %#x, beyond the end", off)
		}
		if len(d) == 0 {
			end = off // the data of the first page begins after the last descriptor
		}
		d = append(d, page{b[off : off+size], little.Uint32(b[at+12:])})
	}
	return d, nil
}

// A dump is the pages of a dump.
type dump []page

// inflate inflates all pages a number of times, by as many workers as vmcsnote
// has and with its decompressors, and returns the CPU time it took. Nothing is
// done with them.
func (d dump) inflate(rounds int) (time.Duration, error) {
	var (
		next   atomic.Int64
		wg     sync.WaitGroup
		failed atomic.Pointer[error]
	)
	start := cpuTime()
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		wg.Go(func() {
			var c codec
			for {
				first := int(next.Add(atOnce)) - atOnce
				if first >= len(d)*rounds {
					return
				}
				for i := range min(atOnce, len(d)*rounds-first) {
					p := d[(first+i)%len(d)]
					if err := c.inflate(p); err != nil {
						failed.Store(&err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	took := cpuTime() - start
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return took, nil
}

// cpuTime returns the CPU time that the process has taken so far.
func cpuTime() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) // it does not fail
	return time.Duration(t.Nano())
}

// A codec inflates pages one at a time.
type codec struct {
	out  [blockSize]byte
	src  bytes.Reader
	zlib io.ReadCloser
	zstd *zstd.Decoder
}

func (c *codec) inflate(p page) (err error) {
	switch p.flags {
	case flagZlib:
		c.src.Reset(p.data)
		if c.zlib == nil {
			c.zlib, err = zlib.NewReader(&c.src)
		} else {
			err = c.zlib.(zlib.Resetter).Reset(&c.src, nil)
		}
		if err == nil {
			_, err = io.ReadFull(c.zlib, c.out[:])
		}
		if err == nil {
			_, err = io.Copy(io.Discard, c.zlib) // to the checksum
		}
	case flagLZO:
		_, err = lzo.Decompress(c.out[:], p.data)
	case flagSnappy:
		_, err = snappy.Decode(c.out[:], p.data)
	case flagZstd:
		if c.zstd == nil {
			c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
		}
		if err == nil {
			_, err = c.zstd.DecodeAll(p.data, c.out[:0])
		}
	case 0:
		copy(c.out[:], p.data)
	default:
		err = errors.Errorf("flags %#x", p.flags)
	}
	return errors.WithStack(err)
}
