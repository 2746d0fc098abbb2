package overwrite

import (
	"testing"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/uuids"
)

// An unfinished XFS may have headers of its groups at the ends of the disk, superblocks among them; what is another's, or in the
// first sector besides its superblock, is foreign.
func TestForeignInXFS(t *testing.T) {
	const ours, others = "365c68ee-966a-4644-880d-1122a36ab9a1", "465c68ee-966a-4644-880d-1122a36ab9a1"
	block := func(header, uuid string, at int) []byte {
		b := make([]byte, blockdev.SuperSize)
		copy(b, header)
		id, _ := uuids.Parse(uuid)
		copy(b[at:], id[:])
		return b
	}
	parted := block("XFSB", ours, 32)
	parted[450] = 0x83
	for _, c := range []struct {
		why    string
		block  []byte
		offset int64
		want   int64
	}{
		{"a superblock of a group", block("XFSB", ours, 32), 600 << 20, -1},
		{"another filesystem's", block("XFSB", others, 32), 600 << 20, 600 << 20},
		{"a header of a group", block("XAGF", ours, 64), 4096, -1},
		{"the superblock", block("XFSB", ours, 32), 0, -1},
		{"the superblock with a partition table in its sector", parted, 0, 0},
		{"something", block("rubbish", ours, 32), 8192, 8192},
	} {
		if got := foreignIn(blockdev.Superblock{Kind: "xfs", UUID: ours}, c.block, c.offset); got != c.want {
			t.Errorf("%s: %d", c.why, got)
		}
	}
}
