package smapi

// The requests of the class Datapath. What each does is in Calls.
type (
	DatapathOpen struct {
		answers[Unit]
		URI        string `json:"uri" is:"uri"`
		Persistent bool   `json:"persistent" about:"whether writes are to last"`
	}
	DatapathAttach struct {
		answers[Backend]
		URI    string `json:"uri" is:"uri"`
		Domain string `json:"domain" about:"who uses it: a guest, or dom0 itself"`
	}
	DatapathActivate struct {
		answers[Unit]
		URI    string `json:"uri" is:"uri"`
		Domain string `json:"domain" about:"who uses it: a guest, or dom0 itself"`
	}
	DatapathActivateReadonly struct {
		answers[Unit]
		URI    string `json:"uri" is:"uri"`
		Domain string `json:"domain" about:"who uses it: a guest, or dom0 itself"`
	}
	DatapathDeactivate struct {
		answers[Unit]
		URI    string `json:"uri" is:"uri"`
		Domain string `json:"domain" about:"who uses it: a guest, or dom0 itself"`
	}
	DatapathDetach struct {
		answers[Unit]
		URI    string `json:"uri" is:"uri"`
		Domain string `json:"domain" about:"who uses it: a guest, or dom0 itself"`
	}
	DatapathImportActivate struct {
		answers[string]
		URI    string `json:"uri" is:"uri"`
		Domain string `json:"domain" about:"who uses it: a guest, or dom0 itself"`
	}
	DatapathClose struct {
		answers[Unit]
		URI string `json:"uri" is:"uri"`
	}
)

// Call is Datapath.open.
func (DatapathOpen) Call() string { return "Datapath.open" }

// Call is Datapath.attach.
func (DatapathAttach) Call() string { return "Datapath.attach" }

// Call is Datapath.activate.
func (DatapathActivate) Call() string { return "Datapath.activate" }

// Call is Datapath.activate_readonly.
func (DatapathActivateReadonly) Call() string { return "Datapath.activate_readonly" }

// Call is Datapath.deactivate.
func (DatapathDeactivate) Call() string { return "Datapath.deactivate" }

// Call is Datapath.detach.
func (DatapathDetach) Call() string { return "Datapath.detach" }

// Call is Datapath.import_activate.
func (DatapathImportActivate) Call() string { return "Datapath.import_activate" }

// Call is Datapath.close.
func (DatapathClose) Call() string { return "Datapath.close" }

// Backend is ways to get at an attached disk, best first.
type Backend struct {
	Implementations []Implementation `json:"implementations"`
}

// Path is the node of the first block device, else the first file, that programs of this host
// can open; "" if there is none.
func (b Backend) Path() string {
	file := ""
	for _, i := range b.Implementations {
		switch {
		case i.BlockDevice != nil:
			return i.BlockDevice.Path
		case i.File != nil && file == "":
			file = i.File.Path
		}
	}
	return file
}

// Implementation is one of them.
type Implementation struct {
	XenDisk     *XenDisk     `json:"XenDisk"`
	BlockDevice *BlockDevice `json:"BlockDevice"`
	File        *File        `json:"File"`
	Nbd         *Nbd         `json:"Nbd"`
}

func (Implementation) isVariant() {}

// MarshalJSON is as a variant.
func (i Implementation) MarshalJSON() ([]byte, error) { return marshalVariant(i) }

// UnmarshalJSON is of a variant.
func (i *Implementation) UnmarshalJSON(data []byte) error { return unmarshalVariant(data, i) }

// The ways to get at a disk.
type (
	XenDisk struct {
		Params      string            `json:"params"`
		Extra       map[string]string `json:"extra"`
		BackendType string            `json:"backend_type" about:"as vbd, the kernel's xen-blkback"`
	}
	BlockDevice struct {
		Path string `json:"path"`
	}
	File struct {
		Path string `json:"path" about:"below /dev: the toolstack cuts that off"`
	}
	Nbd struct {
		URI string `json:"uri" about:"nbd:unix:SOCKET:exportname=NAME"`
	}
)
