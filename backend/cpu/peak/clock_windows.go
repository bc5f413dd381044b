package peak

import (
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32  = windows.NewLazySystemDLL("kernel32.dll")
	counter   = kernel32.NewProc("QueryPerformanceCounter")
	perSecond = count(kernel32.NewProc("QueryPerformanceFrequency"))
)

// Now is the time since some moment. Windows moves its clock, and so time.Now, on
// twice in a millisecond at best; its counter ticks ten million times in a second.
func Now() time.Duration {
	n := count(counter)
	return time.Duration(n/perSecond)*time.Second + time.Duration(n%perSecond)*time.Second/time.Duration(perSecond)
}

// count is what one of the two functions gives; they do not fail.
func count(p *windows.LazyProc) (n int64) {
	_, _, _ = p.Call(uintptr(unsafe.Pointer(&n)))
	return n
}
