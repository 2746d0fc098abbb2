package datapath

import "testing"

// Only what the toolstack calls a disk on its way is a migration: a guest may have any name.
func TestIsMigration(t *testing.T) {
	for domain, want := range map[string]bool{
		"MIR0a1b2c": true, "CPffffff": true, "MIR": false, "CP": false, "MIRROR": false, "CP00xx": false, "MIR0A": false, "0": false, "5": false,
		"u0-mirror_vbd_5_xvda": false, "": false, "xMIR00": false, "CPU1": false,
	} {
		if got := IsMigration(domain); got != want {
			t.Errorf("%q: %v", domain, got)
		}
	}
}
