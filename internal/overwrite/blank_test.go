package overwrite

import (
	"testing"
)

func TestSignature(t *testing.T) {
	for out, want := range map[string]string{
		"": "",
		"DEVNAME=/dev/sdb1\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_NUMBER=1\n": "",
		"DEVNAME=/dev/sdb\nUUID=5b14\nLABEL=my\\ disk\nTYPE=ext4\n":       `ext4, label "my\\ disk", uuid "5b14"`,
		"PTUUID=1\nPTTYPE=gpt\n":     "a partition table (gpt)",
		"TYPE=iso9660\nPTTYPE=dos\n": "iso9660, a partition table (dos)",
	} {
		if got := signature(out); got != want {
			t.Errorf("%q is taken for %q, want %q", out, got, want)
		}
	}
}
