package server

import (
	"reflect"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/web/wire"
)

// Every limit has a default, and what cannot be served is refused by its name.
func TestOptions(t *testing.T) {
	v := reflect.ValueOf(usual)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).Int() <= 0 {
			t.Errorf("%s has no default", name)
		}
		l := Limits{}
		reflect.ValueOf(&l).Elem().Field(i).SetInt(7)
		if err := l.defaults(); err != nil {
			t.Error(err)
		}
		for j := range v.NumField() {
			want := v.Field(j).Int()
			if i == j {
				want = 7
			}
			if have := reflect.ValueOf(l).Field(j).Int(); have != want {
				t.Errorf("%s beside %s: have %d, want %d", v.Type().Field(j).Name, name, have, want)
			}
		}
		reflect.ValueOf(&l).Elem().Field(i).SetInt(-7)
		if err := l.defaults(); err == nil || !strings.Contains(err.Error(), "Limits."+name+": want 0 or more, have -7") {
			t.Errorf("%s: %v", name, err)
		}
	}
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for want, change := range map[string]func(*Options){
		"no models":                       func(o *Options) { o.Models = nil },
		"no device":                       func(o *Options) { o.Device = nil },
		`model "w": no files`:             func(o *Options) { o.Models = []Source{{Name: "w"}} },
		"Limits.Chain: want at most":      func(o *Options) { o.Chain = wire.MaxChain + 1 },
		"Limits.KeepRuns: want at most":   func(o *Options) { o.KeepRuns = o.MostRuns() + 1 },
		"Limits.LogBytes: want 0 or more": func(o *Options) { o.LogBytes = -1 },
		"token: want letters":             func(o *Options) { o.Token = "klasse 3b" },
	} {
		o := Options{Models: []Source{{Name: "m"}}, Device: dev}
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want %s", err, want)
		}
	}
	o := Options{Models: []Source{{Name: "m"}}, Device: dev}
	if err := o.defaults(); err != nil || o.Train.Base != "m" || o.Free() != 0 || o.Train.Free() != 0 || o.Log == nil {
		t.Errorf("have %+v, %v", o, err)
	}
}
