package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapiv1/xmlrpc"
	"reflinksr/scripts"
	"reflinksr/scripts/sandbox"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// TestMain makes this test binary the driver as well, by any of its names.
func TestMain(m *testing.M) {
	sandbox.Hook()
	if _, is := drivers[driverOf(os.Args[0])]; is {
		main()
	}
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// installed is a directory with the driver by each of its names.
func installed(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name := range drivers {
		if err := os.Symlink(self, filepath.Join(dir, name+"SR")); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestScenarios plays xapi, and its forerunner, to the driver, on btrfs and on XFS.
func TestScenarios(t *testing.T) {
	scripts.TestOnBoth(t, scripts.Config{SMAPIv1: installed(t), Own: true})
}

// An SR is attached by one of the two interfaces, whichever comes first, and its disks are the same by either.
func TestOneInterfaceAtATime(t *testing.T) {
	tests.Root(t, "mounting a filesystem and attaching loop devices")
	fs := "btrfs"
	if err := scratch.Available(fs); err != nil {
		tests.Skip(t, err)
	}
	mnt, err := scratch.Make(fs, 1<<30, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	defer mnt.Remove()
	dir, ctx := installed(t), context.Background()
	const uuid, disk = "5d7c7dd4-3d56-4a3f-8f64-64b0b4ec3d0a", "7d0b0e6e-9d0a-4c7a-8a43-2b8a8f4d2f11"
	command := func(status int, says string, args ...string) {
		t.Helper()
		out, err := exec.Command(filepath.Join(dir, "FileSR"), append([]string{args[0], "<dconf><location>" + mnt.Dir + "</location></dconf>", uuid}, args[1:]...)...).CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) != (status != 0) || exit != nil && exit.ExitCode() != status || !strings.Contains(string(out), says) {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	conf := map[string]string{"path": mnt.Dir}
	command(0, "", "sr_create", "0")
	command(0, "", "sr_attach")
	command(0, "", "vdi_create", disk, "4194304")
	if _, err := repository.Attach(ctx, conf); fault.Classify(err) != fault.ErrSRInUse || !strings.Contains(err.Error(), "attached by SMAPIv1") {
		t.Errorf("by the other interface: %v", err)
	}
	if all, err := repository.AttachedBy(ctx, ""); err != nil || len(all) > 0 {
		t.Errorf("the other interface has %q, %v", all, err)
	}
	command(0, disk, "sr_scan")
	command(0, "", "sr_detach")
	sr, err := repository.Attach(ctx, conf)
	if err != nil {
		t.Fatal(err)
	}
	command(16, "attached by SMAPIv3", "sr_attach")
	command(19, "attached on this host by SMAPIv3", "sr_scan")
	command(19, "by SMAPIv3", "sr_detach")
	command(19, "by SMAPIv3", "sr_delete")
	if all, err := sr.List(ctx); err != nil || len(all) != 1 || all[0].UUID != disk {
		t.Errorf("%v, %v", all, err)
	}
	if err := sr.Detach(ctx); err != nil {
		t.Fatal(err)
	}
	command(0, "", "sr_attach")
	command(0, "", "vdi_delete", disk)
	command(0, "", "sr_detach")
}

// The trailer that installing appends lets Python start the driver, which gets its request.
func TestUnderPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		tests.Skip(t, err)
	}
	beside := t.TempDir()
	for program, from := range map[string]string{"reflinksr": "../reflinksr", "reflinksr-smapiv1": "."} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(beside, program), from).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	root := t.TempDir()
	for name, text := range map[string]string{"opt/xensource/sm/other": "", "etc/xapi.conf": "sm-plugins=ext\n"} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(filepath.Join(beside, "reflinksr"), "install", "--smapiv1", "--root", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	installed := filepath.Join(root, "opt/xensource/sm/ReflinkSR")
	request := string(xmlrpc.Request("sr_get_driver_info", xmlrpc.Struct{"command": "sr_get_driver_info", "device_config": xmlrpc.Struct{}}))
	for _, argv := range [][]string{{installed, request}, {python, "-c", "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')", installed, request}} {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		value, bad := xmlrpc.ParseResponse(out)
		if info, _ := value.(xmlrpc.Struct); err != nil || bad != nil || info["name"] != "Reflink" {
			t.Errorf("%q: %v, %v: %s", argv[0], err, bad, out)
		}
	}
}
