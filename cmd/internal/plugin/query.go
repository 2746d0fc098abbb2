package plugin

import (
	"reflinksr/cmd/internal/version"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapi"
)

// Names of the two plugins. The toolstack's SR type is what follows the last dot.
const (
	volumePlugin   = "org.xen.xapi.storage.reflink"
	datapathPlugin = repository.Scheme
)

// claims are the features of the volume plugin that do not follow from its calls.
var claims = []string{"VDI_ATTACH_OFFLINE", "VDI_RESIZE_ONLINE", "LARGE_VDI", "THIN_PROVISIONING"}

func volumeQuery() smapi.QueryResult {
	return smapi.QueryResult{
		Plugin:               "reflink",
		Name:                 "reflinksr",
		Description:          "Disks as raw files on XFS or btrfs; snapshots and clones share blocks (reflink)",
		Vendor:               vendor,
		Copyright:            copyright,
		Version:              version.Version,
		RequiredAPIVersion:   smapi.APIVersion,
		Features:             smapi.FeaturesOf(smapi.InVolume, offered(), claims...),
		Configuration:        repository.Configuration(),
		RequiredClusterStack: []string{},
	}
}

func datapathQuery() smapi.QueryResult {
	return smapi.QueryResult{
		Plugin:               datapathPlugin,
		Name:                 "reflinksr loop+blkback",
		Description:          "Volumes of reflinksr as loop devices behind the kernel's xen-blkback",
		Vendor:               vendor,
		Copyright:            copyright,
		Version:              version.Version,
		RequiredAPIVersion:   smapi.APIVersion,
		Features:             smapi.FeaturesOf(smapi.InDatapath, offered()),
		Configuration:        map[string]string{},
		RequiredClusterStack: []string{},
	}
}

const (
	vendor    = "the reflinksr project"
	copyright = "Apache-2.0"
)

// offered are the names of the calls of the two plugins.
func offered() []string {
	server := repository.CanServe()
	return append(links(volumeCalls(), server), links(datapathCalls(), server)...)
}
