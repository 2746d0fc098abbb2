package repository

import (
	"context"

	"reflinksr/internal/filesystem"
	"reflinksr/sr"
	"reflinksr/volume"
)

// SRStat is what an SR is like, as the toolstack asks.
type SRStat = sr.Stat

// VolumeStat is what a volume is like, as the toolstack asks.
type VolumeStat = volume.Volume

// Full is what Shortage says of an SR that has no space left.
const Full = filesystem.Full

// Shortage says of a healthy SR in a word that it has hardly any space left: FULL, LOW, else "".
func Shortage(st SRStat) string {
	if st.Health[0] != Healthy {
		return ""
	}
	return filesystem.Shortage(st.FreeSpace, st.TotalSpace)
}

// Healthy is the state, the first text of SRStat.Health, of an SR that can be used.
const Healthy = sr.Healthy

// CBTMetadata is the VolumeType of a volume whose data was destroyed.
const CBTMetadata = volume.CBTMetadata

// Stat describes the SR, and warns of volumes that could outgrow it. One that is not where it
// was attached is described as well, as unreachable.
func (s SR) Stat(context.Context) (SRStat, error) { return sr.StatSR(string(s), volume.Warning) }

// List describes every volume of the SR, in the order of their keys, damaged ones as such.
func (s SR) List(context.Context) ([]VolumeStat, error) { return volume.List(string(s)) }

// Stat describes the volume.
func (v Volume) Stat(context.Context) (VolumeStat, error) { return volume.Stat(string(v.SR), v.Key) }
