package run

import (
	"bufio"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// FreeMemory is how many bytes this process may still take: what the machine has
// available or what is left of its control groups' limits, whichever is less. It
// is 0 where neither is known. root is the root of the file system (os.DirFS("/")).
func FreeMemory(root fs.FS) int64 {
	free := int64(math.MaxInt64)
	less := func(n int64) { free = min(free, max(n, 1)) }
	available := strings.TrimSuffix(fields(root, "proc/meminfo", ":")["MemAvailable"], " kB")
	if n, err := strconv.ParseInt(available, 10, 64); err == nil {
		less(n << 10)
	}
	// Control groups, version 2: one line "0::/path"; each folder up to the root
	// may have a limit. Inside a container the path may not exist; the root then
	// has the container's.
	for group := strings.Trim(fields(root, "proc/self/cgroup", "::")["0"], "/"); ; group = path.Dir(group) {
		dir := path.Join("sys/fs/cgroup", group)
		limit, ok1 := readNumber(root, dir+"/memory.max")
		used, ok2 := readNumber(root, dir+"/memory.current")
		if ok1 && ok2 {
			less(limit - held(root, dir, used, ""))
		}
		if group == "." || group == "" || group == "/" {
			break
		}
	}
	if limit, ok := readNumber(root, "sys/fs/cgroup/memory/memory.limit_in_bytes"); ok { // version 1
		if used, ok := readNumber(root, "sys/fs/cgroup/memory/memory.usage_in_bytes"); ok {
			less(limit - held(root, "sys/fs/cgroup/memory", used, "total_"))
		}
	}
	if free == math.MaxInt64 {
		return 0
	}
	return free
}

// held is what a group uses less its pages of files, which are given back when needed.
// prefix stands before their names in its memory.stat.
func held(root fs.FS, group string, used int64, prefix string) int64 {
	stat := fields(root, group+"/memory.stat", " ")
	for _, name := range []string{"inactive_file", "active_file"} {
		pages, _ := strconv.ParseInt(stat[prefix+name], 10, 64) // 0 if that is not known
		used -= pages
	}
	return max(0, used)
}

// fields reads lines of a name and a value.
func fields(root fs.FS, file, between string) map[string]string {
	f, err := root.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	all := map[string]string{}
	for in := bufio.NewScanner(f); in.Scan(); {
		if name, value, ok := strings.Cut(in.Text(), between); ok {
			all[name] = strings.TrimSpace(value)
		}
	}
	return all
}

// readNumber reads a file that holds one number; "max" is none.
func readNumber(root fs.FS, file string) (int64, bool) {
	raw, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}
