// Pack writes the tables beside it into tables.zz, the form in which the
// program carries them: a fifth of the size. go generate ./vmcs runs it, and a
// test compares.
package main

import (
	"bytes"
	"compress/zlib"
	"log"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	if err := pack("layouts", "tables.zz"); err != nil {
		log.Fatal(err)
	}
}

// pack compresses the tables of dir, by name: of each its name, a zero byte,
// its text, a zero byte.
func pack(dir, out string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.tsv"))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, zlib.BestCompression)
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		z.Write([]byte(filepath.Base(file) + "\x00"))
		z.Write(append(text, 0))
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(out, b.Bytes(), 0o644)
}
