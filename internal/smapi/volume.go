package smapi

// The requests of the class Volume. What each does is in Calls.
type (
	VolumeCreate struct {
		answers[Volume]
		SR          string `json:"sr" is:"sr"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Size        int64  `json:"size" about:"bytes, at least"`
		Sharable    bool   `json:"sharable" about:"several may write at once"`
	}
	VolumeSnapshot struct {
		answers[Volume]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeClone struct {
		answers[Volume]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeCopy struct {
		answers[Volume]
		SR     string `json:"sr" is:"sr"`
		Key    string `json:"key" is:"key"`
		DestSR string `json:"dest_sr" is:"sr" about:"the SR that the copy is made in"`
	}
	VolumeDestroy struct {
		answers[Unit]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeRevert struct {
		answers[Unit]
		SR       string `json:"sr" is:"sr"`
		Snapshot string `json:"snapshot" is:"key" about:"the volume whose contents it gets, by its key"`
		Key      string `json:"key" is:"key"`
	}
	VolumeSetName struct {
		answers[Unit]
		SR      string `json:"sr" is:"sr"`
		Key     string `json:"key" is:"key"`
		NewName string `json:"new_name" item:"name"`
	}
	VolumeSetDescription struct {
		answers[Unit]
		SR             string `json:"sr" is:"sr"`
		Key            string `json:"key" is:"key"`
		NewDescription string `json:"new_description" item:"description"`
	}
	VolumeSet struct {
		answers[Unit]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
		K   string `json:"k" item:"pair's key"`
		V   string `json:"v" item:"pair's value"`
	}
	VolumeUnset struct {
		answers[Unit]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
		K   string `json:"k" item:"pair's key" about:"may be absent"`
	}
	VolumeResize struct {
		answers[Unit]
		SR      string `json:"sr" is:"sr"`
		Key     string `json:"key" is:"key"`
		NewSize int64  `json:"new_size" item:"size" about:"bytes, at least; no fewer than there are"`
	}
	VolumeStat struct {
		answers[Volume]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeCompare struct {
		answers[Blocklist]
		SR   string `json:"sr" is:"sr"`
		Key  string `json:"key" is:"key"`
		Key2 string `json:"key2" is:"key" about:"another volume, by its key"`
	}
	VolumeSimilarContent struct {
		answers[[]string]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeEnableCBT struct {
		answers[Unit]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeDisableCBT struct {
		answers[Unit]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeDataDestroy struct {
		answers[Unit]
		SR  string `json:"sr" is:"sr"`
		Key string `json:"key" is:"key"`
	}
	VolumeListChangedBlocks struct {
		answers[ChangedBlocks]
		SR     string `json:"sr" is:"sr"`
		Key    string `json:"key" is:"key"`
		Key2   string `json:"key2" is:"key" about:"a newer volume, by its key"`
		Offset int64  `json:"offset" about:"bytes"`
		Length int64  `json:"length" about:"bytes; -1 is to the end"`
	}
	VolumeCompose struct {
		answers[Unit]
		SR   string `json:"sr" is:"sr"`
		Key  string `json:"key" is:"key"`
		Key2 string `json:"key2" is:"key" about:"the parent, by its key; it is gone afterwards"`
	}
)

// Call is Volume.create.
func (VolumeCreate) Call() string { return "Volume.create" }

// Call is Volume.snapshot.
func (VolumeSnapshot) Call() string { return "Volume.snapshot" }

// Call is Volume.clone.
func (VolumeClone) Call() string { return "Volume.clone" }

// Call is Volume.copy.
func (VolumeCopy) Call() string { return "Volume.copy" }

// Call is Volume.destroy.
func (VolumeDestroy) Call() string { return "Volume.destroy" }

// Call is Volume.revert.
func (VolumeRevert) Call() string { return "Volume.revert" }

// Call is Volume.set_name.
func (VolumeSetName) Call() string { return "Volume.set_name" }

// Call is Volume.set_description.
func (VolumeSetDescription) Call() string { return "Volume.set_description" }

// Call is Volume.set.
func (VolumeSet) Call() string { return "Volume.set" }

// Call is Volume.unset.
func (VolumeUnset) Call() string { return "Volume.unset" }

// Call is Volume.resize.
func (VolumeResize) Call() string { return "Volume.resize" }

// Call is Volume.stat.
func (VolumeStat) Call() string { return "Volume.stat" }

// Call is Volume.compare.
func (VolumeCompare) Call() string { return "Volume.compare" }

// Call is Volume.similar_content.
func (VolumeSimilarContent) Call() string { return "Volume.similar_content" }

// Call is Volume.enable_cbt.
func (VolumeEnableCBT) Call() string { return "Volume.enable_cbt" }

// Call is Volume.disable_cbt.
func (VolumeDisableCBT) Call() string { return "Volume.disable_cbt" }

// Call is Volume.data_destroy.
func (VolumeDataDestroy) Call() string { return "Volume.data_destroy" }

// Call is Volume.list_changed_blocks.
func (VolumeListChangedBlocks) Call() string { return "Volume.list_changed_blocks" }

// Call is Volume.compose.
func (VolumeCompose) Call() string { return "Volume.compose" }

// Volume is a disk, or what is left of one.
type Volume struct {
	Key                 string            `json:"key" is:"key"`
	UUID                string            `json:"uuid,omitempty"`
	Name                string            `json:"name"`
	Description         string            `json:"description"`
	ReadWrite           bool              `json:"read_write"`
	Sharable            bool              `json:"sharable"`
	VirtualSize         int64             `json:"virtual_size" about:"bytes"`
	PhysicalUtilisation int64             `json:"physical_utilisation" about:"bytes"`
	URI                 []string          `json:"uri" about:"best first; the scheme names a datapath plugin"`
	Keys                map[string]string `json:"keys" about:"what Volume.set has stored"`
	VolumeType          VolumeType        `json:"volume_type,omitempty" about:"Data if it is absent"`
	CBTEnabled          bool              `json:"cbt_enabled" optional:"true" about:"false if it is absent"`
}

// VolumeType says what there is of a volume; "" is Data.
type VolumeType string

// The types of volumes.
const (
	Data               VolumeType = "Data"
	CBTMetadata        VolumeType = "CBT_Metadata"
	DataAndCBTMetadata VolumeType = "Data_and_CBT_Metadata"
)

func (VolumeType) describe() Type {
	return Type{Kind: Enum, Name: "volume_type", Names: []string{string(Data), string(CBTMetadata), string(DataAndCBTMetadata)}}
}

// Blocklist is ranges of blocks, in order.
type Blocklist struct {
	BlockSize int64   `json:"blocksize" least:"1" about:"bytes"`
	Ranges    []Range `json:"ranges"`
}

// Range is the number of the first block, and how many there are.
type Range [2]int64

func (Range) describe() Type {
	natural, positive := int64(0), int64(1)
	return Type{Kind: Pair, Name: "range", Of: []Type{{Kind: Integer, Least: &natural}, {Kind: Integer, Least: &positive}}}
}

// ChangedBlocks says of each block of a volume whether it may have changed.
type ChangedBlocks struct {
	Granularity int64  `json:"granularity" exactly:"65536" about:"bytes a bit; whoever reads the bitmap takes 65536 for granted"`
	Bitmap      Bitmap `json:"bitmap" about:"the most significant bit first"`
}

// Bitmap is bits, in base64.
type Bitmap string

func (Bitmap) describe() Type { return Type{Kind: Base64} }
