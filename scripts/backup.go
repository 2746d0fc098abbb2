package scripts

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"reflinksr/internal/smapi"
)

// backupBlock is what Xen Orchestra reads at once, in bytes: the block of a VHD, told of by one word of 32 bits.
const backupBlock = 32 * piece

// backup makes the copy NAME of a snapshot, or brings it from what another held to what this one holds, as Xen Orchestra's incremental
// backup does; it fails where that would make a full backup instead. Then copy and snapshot hold the same.
//
// Learnt from its sources (vatesfr/xen-orchestra, 2026): it wants cbt_enabled of the snapshot; it reads list_changed_blocks of the whole disk as
// words of 32 bits, big-endian, and throws where the last one is cut off; of each that is not 0 it reads the block of 2 MiB by NBD,
// the last one as far as the disk goes, which must begin before the disk's end; and it destroys the data as soon as it has let go of the disk.
func (s *script) backup(_ bool, args []string) error {
	if len(args) != 2 && len(args) != 3 {
		return usage("backup")
	}
	copied, err := os.OpenFile(filepath.Join(s.work, args[0]), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer copied.Close()
	snapshot := args[1]
	v, err := s.stat(snapshot)
	if err != nil {
		return err
	}
	blocks := make([]int64, (v.VirtualSize+backupBlock-1)/backupBlock)
	for i := range blocks {
		blocks[i] = int64(i)
	}
	if len(args) == 3 {
		if !v.CBTEnabled {
			return errors.New("a full backup is due: cbt_enabled of the snapshot is false")
		}
		if blocks, err = s.changedSince(args[2], snapshot); err != nil {
			return fmt.Errorf("a full backup is due: %w", err)
		}
	}
	if err := copied.Truncate(v.VirtualSize); err != nil {
		return err
	}
	err = s.asBackupClient(snapshot, func(path string) error { return readBlocks(s, path, v.VirtualSize, blocks, copied) })
	if err != nil {
		return err
	}
	s.tell("%d blocks of 2 MiB read by NBD", len(blocks))
	return s.holds(snapshot, copied)
}

// changedSince are the numbers of the blocks to be read.
func (s *script) changedSince(base, snapshot string) (blocks []int64, err error) {
	answer, err := ask(s, smapi.VolumeListChangedBlocks{SR: s.ts.Getenv("SR"), Key: base, Key2: snapshot, Offset: 0, Length: -1})
	if err != nil {
		return nil, err
	}
	bits, err := base64.StdEncoding.DecodeString(string(answer.Bitmap))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(bits); i += 4 {
		if len(bits)-i < 4 {
			return nil, fmt.Errorf("the bitmap has %d bytes, no whole words of 4", len(bits))
		}
		if binary.BigEndian.Uint32(bits[i:]) != 0 {
			blocks = append(blocks, int64(i/4))
		}
	}
	return blocks, nil
}

// asBackupClient runs do with the path by which xapi has dom0 read a snapshot: that of a File before that of a BlockDevice.
func (s *script) asBackupClient(key string, do func(path string) error) error {
	p, err := s.doPlug(key, true, "u0_backup")
	if err != nil {
		return err
	}
	path := p.device
	for _, i := range s.backend.Implementations {
		if i.File != nil {
			path = i.File.Path
		}
	}
	return errors.Join(do(path), s.doUnplug(p))
}

// readBlocks copies blocks of a disk of size bytes, served by NBD.
func readBlocks(s *script, path string, size int64, blocks []int64, to io.WriterAt) (err error) {
	socket := filepath.Join(s.work, "nbd")
	// In the foreground, gone with us, and done when we are.
	c := exec.CommandContext(s.config.context(), "nbdkit", "--foreground", "--exit-with-parent", "--readonly", "--unix", socket, "file", path)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	defer func() {
		c.Process.Signal(os.Interrupt)
		err = errors.Join(err, c.Wait(), os.Remove(socket))
	}()
	client, err := dialNBD(socket, time.Minute)
	if err != nil {
		return err
	}
	defer client.Close()
	if client.size != size {
		return fmt.Errorf("the disk has %d bytes, and NBD says %d", size, client.size)
	}
	b := make([]byte, backupBlock)
	for _, i := range blocks {
		n := min(backupBlock, size-i*backupBlock)
		if n <= 0 {
			return fmt.Errorf("block %d is told of, and the disk ends before it", i)
		}
		if err := client.read(b[:n], i*backupBlock); err != nil {
			return err
		}
		if _, err := to.WriteAt(b[:n], i*backupBlock); err != nil {
			return err
		}
	}
	return client.disconnect()
}

// holds compares a disk with its copy.
func (s *script) holds(key string, copied *os.File) error {
	return s.withDevice(key, true, func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		at, err := firstDifference(f, copied)
		if err == nil && at >= 0 {
			err = fmt.Errorf("copy and disk differ in the 2 MiB from byte %d on", at)
		}
		return err
	})
}

// firstDifference is the offset of the first 2 MiB in which two differ; -1 if there are none.
func firstDifference(f, g io.ReaderAt) (at int64, err error) {
	a, b := make([]byte, backupBlock), make([]byte, backupBlock)
	for at := int64(0); ; at += backupBlock {
		n, err := f.ReadAt(a, at)
		m, err2 := g.ReadAt(b, at)
		if err = errors.Join(ignoreEOF(err), ignoreEOF(err2)); err != nil {
			return 0, err
		}
		if string(a[:n]) != string(b[:m]) {
			return at, nil
		}
		if n < backupBlock {
			return -1, nil
		}
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
