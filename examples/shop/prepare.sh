# Folders for redis and nginx, and nginx's configuration with this stack's ports.
set -eu
mkdir -p "$DATA/redis" "$DATA/nginx"
sed -e "s/@PORT@/$PORT/" -e "s/@WEB_PORT@/$WEB_PORT/" nginx.conf.in > "$DATA/nginx/nginx.conf"
echo "prepared $DATA"
