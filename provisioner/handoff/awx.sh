need curl curl ca-certificates || return 1
if [ -n "$awx_ca" ]; then
    awx_ca=$secrets/$awx_ca
fi
awx_given_up=

# Posts the key once. What cannot get better is not tried again.
call_back() {
    awx_status=$(curl -sS --proto =https --max-time 60 ${awx_ca:+--cacert "$awx_ca"} -H 'Content-Type: application/json' \
        --data-binary "@$secrets/$awx_key" -o "$dir/handoff.awx" -w '%{http_code}' "$awx_url") || {
        awx_code=$?
        case $awx_code in
            35 | 51 | 58 | 60 | 77)
                say "the certificate of $awx_server is not trusted; nothing was sent"
                awx_given_up=1
                return 0
                ;;
        esac
        say "$awx_server gives no answer"
        return 1
    }
    case $awx_status in
        201 | 202) return 0 ;;
        400) # the job of a callback whose answer was lost
            if grep -q 'already pending' "$dir/handoff.awx"; then
                return 0
            fi
            ;;
        401 | 403 | 404 | 405) awx_given_up=1 ;;
    esac
    say "$awx_server answers $awx_status: $(head -c 300 "$dir/handoff.awx" | tr -d '\000-\037')"
    [ -n "$awx_given_up" ]
}

patiently "$awx_seconds" call_back || awx_given_up=1
rm -f "$dir/handoff.awx"
if [ -n "$awx_given_up" ]; then
    return 1
fi
say "$awx_server has taken the callback; waiting for its job"
ready ''
